"""Writes all of it, in the repository's root."""

from generate.documents import write_demo_picture, write_tables
from generate.findings import write_findings
from generate.objectives_page import write_pages
from generate.reference import write_reference

write_pages()
write_findings()
write_tables()
write_demo_picture()
write_reference()
