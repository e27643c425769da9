// Requests to the service.
"use strict";

const tokenOf = () => sessionStorage.getItem("token");

/** A request that waits and tries again while the service is busy. */
async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    if (tokenOf()) headers.Authorization = `Bearer ${tokenOf()}`;
    const response = await fetch(path, { ...options, headers });
    if (response.status !== 429) return response;
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("Retry-After") || 1)));
  }
}

/** Why a request was refused, in the service's words if possible. */
async function refusalOf(response) {
  const answer = await response.json().catch(() => ({}));
  return answer.error || `The service gave an invalid response (${response.status}).`;
}
