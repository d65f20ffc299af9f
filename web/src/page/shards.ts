// Parts of a split page lie in files beside it. A page from the disk may not fetch; a classic script may be loaded.

type Pushed = [name: string, json: string];

declare global {
  interface Window {
    harkenShards?: Pushed[];
  }
}

const loaded = new Map<string, Promise<unknown[]>>();

/** Return the list that a file holds, read once. Rejects with a sentence for the reader if it is missing or damaged. */
export function loadShard(name: string): Promise<unknown[]> {
  const known = loaded.get(name);
  if (known) return known;
  const promise = new Promise<unknown[]>((resolve, reject) => {
    const script = document.createElement("script");
    script.src = name;
    script.onload = () => {
      script.remove();
      try {
        resolve(take(name));
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    script.onerror = () => {
      script.remove();
      loaded.delete(name);
      reject(new Error(`The file ${name} is not beside this page. Keep the page and its folder of shards together`));
    };
    document.head.append(script);
  });
  loaded.set(name, promise);
  return promise;
}

/** Return the lists of several files as one, in order. */
export async function loadShards(names: readonly string[]): Promise<unknown[]> {
  return (await Promise.all(names.map(loadShard))).flat();
}

/** Take what the script of a shard has pushed. */
function take(name: string): unknown[] {
  const pushed = window.harkenShards ?? [];
  const place = pushed.findIndex(([own]) => own === name);
  if (place < 0) throw new Error(`The file ${name} does not hold the shard of that name. Write the report again`);
  const [, json] = pushed.splice(place, 1)[0] as Pushed;
  const content: unknown = JSON.parse(json);
  if (!Array.isArray(content)) throw new Error(`The file ${name} holds no list. Write the report again`);
  return content;
}
