// Requests to the service.
"use strict";

const tokenOf = () => sessionStorage.getItem("token");

/** A request that waits and tries again where the service has too much to do. */
async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    if (tokenOf()) headers.Authorization = `Bearer ${tokenOf()}`;
    const response = await fetch(path, { ...options, headers });
    if (response.status !== 429) return response;
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("Retry-After") || 1)));
  }
}

/** Why a request was refused, in the service's words if it has any. */
async function refusalOf(response) {
  const answer = await response.json().catch(() => ({}));
  return answer.error || `The service gave no answer that can be used (${response.status}).`;
}
