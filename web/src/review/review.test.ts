import { describe, expect, it } from "vitest";
import { VisibleClock } from "./clock";
import { type Pack, packSource, unpack } from "./pack";
import { newUuid, standing, type Vote } from "./votes";

const vote = (task: string, choice: Vote["choice"], supersedes = ""): Vote => ({
  uuid: newUuid(),
  task,
  choice,
  strength: 0,
  reasons: [],
  seconds: 1,
  shown_at: "",
  client: "page",
  supersedes,
});
const task = (id: string) => ({ id, prompt: [{ role: "user", text: "?" }], left: "a", right: "b" });
const pack: Pack = { study: "s", rubric: "r", reasons: [], tasks: [task("t1"), task("t2")] };

describe("the clock", () => {
  it("counts only while the page is visible", () => {
    let now = 0;
    const clock = new VisibleClock(() => now);
    clock.restart(true);
    now = 3000;
    clock.show(false);
    now = 60_000;
    expect(clock.seconds()).toBe(3);
    clock.show(true);
    clock.show(true);
    now = 61_500;
    expect(clock.seconds()).toBe(4.5);
    clock.restart(false);
    now = 70_000;
    expect(clock.seconds()).toBe(0);
  });
});

describe("a pack", () => {
  it("goes on where its votes end, undoes, and gives them back in order", async () => {
    let kept: string | null = null;
    const storage = { get: () => kept, set: (text: string) => void (kept = text) };
    const source = packSource(pack, storage);
    const first = vote("t1", "left");
    expect((await source.vote(first)).task?.id).toBe("t2");
    const after = await source.vote(vote("t1", "undo", first.uuid));
    expect([after.task?.id, after.done, after.last]).toEqual(["t1", 0, null]);
    await source.vote(vote("t1", "tie"));
    const end = await packSource(pack, storage).vote(vote("t2", "skip"));
    expect([end.task, end.done, end.last?.task]).toEqual([null, 2, "t2"]);
    expect(JSON.parse(packSource(pack, storage).file()!).votes.map((one: Vote) => one.choice)).toEqual([
      "left",
      "undo",
      "tie",
      "skip",
    ]);
  });
  it("is unpacked as UTF-8", () => {
    const text = JSON.stringify({ ...pack, rubric: "größer 雨 \u202e" });
    const encoded = btoa(String.fromCharCode(...new TextEncoder().encode(text)));
    expect(unpack(encoded).rubric).toBe("größer 雨 \u202e");
  });
});

describe("votes", () => {
  it("stand until they are taken back", () => {
    expect([...standing([vote("a", "left"), vote("b", "tie"), vote("a", "undo")]).keys()]).toEqual(["b"]);
  });
  it("have random UUIDs of version 4", () => {
    const found = new Set(Array.from({ length: 200 }, newUuid));
    expect(found.size).toBe(200);
    for (const one of found) expect(one).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});
