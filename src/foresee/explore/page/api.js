// Calls to the server that this page came from. An error is always one sentence to be shown as it is.

export class CallError extends Error {}

export async function call(name, given = {}) {
  let response, told;
  try {
    response = await fetch(`api/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(given),
    });
    told = await response.json();
  } catch {
    throw new CallError("The program behind this page does not answer. Was it stopped? Start it again with: foresee explore");
  }
  if (!response.ok) throw new CallError(told.error);
  return told;
}
