"""The page's style sheet: dark text on white, one column on a phone, no page break inside a figure or a table row."""

STYLESHEET = """
:root { --ink: #1f2328; --quiet: #586069; --line: #e2e5e9; --wash: #f6f7f9; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 17px/1.6 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1210px; margin: 0 auto; padding: 40px 28px 72px; }
h1 { font-size: 1.95rem; line-height: 1.2; margin: 0 0 20px; letter-spacing: -0.01em; text-wrap: balance; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 64px 0 12px; padding-top: 20px; border-top: 1px solid var(--line); }
h3 { font-size: 1.06rem; line-height: 1.35; margin: 32px 0 8px; overflow-wrap: anywhere; }
p, ul, ol, dl { max-width: 72ch; margin: 0 0 14px; }
ul, ol { padding-left: 1.3em; }
li { margin-bottom: 8px; }
.lead { font-size: 1.16rem; line-height: 1.5; max-width: 60ch; }
.quiet, figcaption, .note { color: var(--quiet); font-size: 0.9rem; line-height: 1.5; }
code, .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.86em; overflow-wrap: anywhere; }
.findings { list-style: none; padding: 0; max-width: 78ch; }
.findings > li { padding: 12px 0 12px 18px; border-left: 4px solid var(--mark, var(--line)); margin: 0 0 14px; }
.findings p { margin: 4px 0 0; max-width: none; }
.name { font-weight: 650; overflow-wrap: anywhere; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 999px; padding: 0 10px; margin-left: 8px;
  font-size: 0.82rem; line-height: 1.6; white-space: nowrap; }
.swatch { display: inline-block; width: 0.72em; height: 0.72em; border-radius: 2px; background: var(--mark);
  margin-right: 7px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
table { border-collapse: collapse; width: 100%; font-size: 0.86rem; line-height: 1.45;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 10px 14px 10px 0; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; color: var(--quiet); border-bottom: 1.5px solid var(--ink); white-space: nowrap; }
td > div { white-space: nowrap; }
td .quiet { font-size: 0.8rem; }
.interval { color: var(--quiet); font-size: 0.78rem; }
td.who { min-width: 150px; max-width: 260px; }
td.who > div { white-space: normal; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 20px 32px;
  margin: 12px 0 8px; align-items: start; }
figure { margin: 0; break-inside: avoid; page-break-inside: avoid; }
figure + figure { margin-top: 20px; }
.panels figure + figure { margin-top: 0; }
.drawing { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: 6px; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
.written { margin-top: 4px; padding-bottom: 5px; }
.right { text-decoration: none; }
.wrong { text-decoration: underline wavy 1.5px; text-underline-offset: 4px; font-weight: 700; }
.key ul { display: flex; flex-wrap: wrap; gap: 4px 26px; list-style: none; padding: 0; margin: 10px 0 16px;
  max-width: none; font-size: 0.92rem; }
.key li { display: flex; align-items: center; gap: 8px; margin: 0; overflow-wrap: anywhere; }
.key svg { width: 50px; height: 16px; flex: none; }
pre { background: var(--wash); padding: 12px 14px; border-radius: 6px; margin: 6px 0 14px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 0.82rem; line-height: 1.5; }
pre code { font-size: inherit; }
details { margin: 8px 0 14px; }
summary { cursor: pointer; font-size: 0.92rem; color: var(--quiet); padding: 4px 0; }
dt { font-weight: 650; margin-top: 14px; }
dd { margin: 2px 0 0; }
.facts { display: grid; grid-template-columns: minmax(110px, max-content) 1fr; gap: 2px 18px; font-size: 0.86rem; }
.facts dt, .facts dd { margin: 0; font-weight: 400; overflow-wrap: anywhere; }
.facts dt { color: var(--quiet); }
@media screen and (max-width: 760px) {
  body { font-size: 16px; }
  main { padding: 24px 16px 48px; }
  h1 { font-size: 1.55rem; }
  h2 { margin-top: 48px; }
  table.results, table.results tbody, table.results tr, table.results td { display: block; width: auto; }
  table.results thead { display: none; }
  table.results tr { border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; margin-bottom: 16px; }
  table.results td { border: 0; padding: 5px 0; max-width: none; display: grid; grid-template-columns: 118px 1fr; }
  table.results td > * { grid-column: 2; }
  table.results td::before { content: attr(data-label); color: var(--quiet); grid-column: 1; grid-row: 1; }
  table.results td.who { display: block; padding-bottom: 8px; font-size: 0.95rem; }
  table.results td.who::before { content: none; }
}
@media print {
  @page { margin: 16mm 14mm; }
  body { font-size: 10.5pt; line-height: 1.45; }
  main { max-width: none; padding: 0; }
  h2 { margin-top: 26pt; }
  h2, h3 { break-after: avoid; page-break-after: avoid; }
  details:not([open]) { display: none; }
  tr, li, .findings > li, pre, .key { break-inside: avoid; page-break-inside: avoid; }
  table { font-size: 8pt; }
  th, td { padding-right: 8px; }
  td.who { min-width: 27mm; max-width: 40mm; }
  .key, dt { break-after: avoid; page-break-after: avoid; }
  td .quiet, .interval { font-size: 7pt; }
  .panels { grid-template-columns: 1fr 1fr; gap: 10px 18px; }
  .drawing { overflow: visible; }
  .drawing svg { min-width: 0 !important; }
}
"""
