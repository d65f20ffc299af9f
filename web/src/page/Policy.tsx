// The colour and the shape of a policy: the same everywhere on the page.

/** Number of colours and shapes; further policies repeat them. */
export const TINTS = 6;

const SHAPES = [
  "M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0 -9z", // circle
  "M2 2h8v8h-8z", // square
  "M6 1l5 9.5h-10z", // triangle
  "M6 .5l5.5 5.5l-5.5 5.5l-5.5 -5.5z", // diamond
  "M4 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z", // cross
  "M6 11l-5 -9.5h10z", // triangle downwards
];

/** The class that sets --c to the colour of the policy with this index. */
export const tint = (index: number): string => `p${((index % TINTS) + TINTS) % TINTS}`;

/** The policy's mark: its shape in its colour. */
export function Dot({ index }: { index: number }) {
  return (
    <svg class={`dot ${tint(index)}`} viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
      <path d={SHAPES[((index % TINTS) + TINTS) % TINTS]} />
    </svg>
  );
}

/** A policy's name after its mark. `policies` is the order of the summary. */
export function PolicyName({ name, policies }: { name: string; policies: readonly string[] }) {
  return (
    <span class="policy">
      <Dot index={policies.indexOf(name)} />
      {name}
    </span>
  );
}
