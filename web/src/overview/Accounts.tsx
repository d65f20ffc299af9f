// Sections of text and tables: the report card of the reward model, the audit of the responses.
import type { Account } from "../contract";
import { Section } from "../page/Section";
import { ItemTable } from "../page/Table";
import { VisibleText } from "../page/VisibleText";

type Block = Account["blocks"][number];

function BlockView({ block }: { block: Block }) {
  const text = block.text ?? "";
  if (block.kind === "heading") return <h3><VisibleText text={text} /></h3>;
  if (block.kind === "item") return <p class="item">• <VisibleText text={text} /></p>;
  if (block.kind === "text") return <p><VisibleText text={text} /></p>;
  const [first, ...others] = block.heads ?? [];
  return (
    <ItemTable
      caption={(block.heads ?? []).join(", ")}
      items={block.rows ?? []}
      rowName={first}
      rowHead={(row) => <VisibleText text={row[0]} />}
      columns={others.map((name, i) => ({ name, cell: (row: string[]) => <VisibleText text={row[i + 1] ?? ""} /> }))}
      kind="plain"
    />
  );
}

/** The blocks of an account, without the section around them. */
export function Blocks({ blocks }: { blocks: readonly Block[] }) {
  return <>{blocks.map((block) => <BlockView block={block} />)}</>;
}

export function Accounts({ accounts }: { accounts: readonly Account[] }) {
  return (
    <>
      {accounts.map((account) => (
        <Section id={account.id} title={account.title}>
          <div class="account">
            <Blocks blocks={account.blocks} />
          </div>
        </Section>
      ))}
    </>
  );
}
