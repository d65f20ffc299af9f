// The review on a server. The token stands behind # in the address: it is sent in a header, and to no other place.
import { Refused, type Source, type State, type Vote } from "./votes";

export function serverSource(token: string): Source {
  async function ask(path: string, body?: Vote): Promise<State> {
    const answer = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: { "X-Harken-Token": token, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    const found = (await answer.json()) as State & { error?: string };
    if (answer.ok) return found;
    if (answer.status >= 500) throw new Error(found.error ?? "the server failed");
    throw new Refused(found.error ?? "refused", answer.status);
  }
  return { state: () => ask("api/state"), vote: (vote) => ask("api/votes", vote), file: () => null };
}
