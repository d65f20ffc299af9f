// Sections of text, tables and figures: the report card of the reward model, the audit, the suites of sycophancy.
import type { PageData, TextSection, Card, Stage } from "../contract";
import { RewardCard } from "../card/RewardCard";
import { typeset } from "../page/numbers";
import { Section } from "../page/Section";
import { ItemTable } from "../page/Table";
import { VisibleText } from "../page/VisibleText";
import { FiguresTable } from "./FiguresTable";

type Block = TextSection["blocks"][number];

function BlockView({ block, data }: { block: Block; data: PageData }) {
  const text = block.text ?? "";
  if (block.kind === "heading") return <h3><VisibleText text={text} /></h3>;
  if (block.kind === "item") return <p class="item">• <VisibleText text={text} /></p>;
  if (block.kind === "text") return <p><VisibleText text={typeset(text)} /></p>;
  if (block.kind === "figures") return <FiguresTable block={block} data={data} />;
  if (block.kind === "fold") {
    return (
      <details>
        <summary>{text}</summary>
        <ul class="notes">{(block.items ?? []).map((item) => <li><VisibleText text={typeset(item)} /></li>)}</ul>
      </details>
    );
  }
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

function Blocks({ blocks, data }: { blocks: readonly Block[]; data: PageData }) {
  return <div class="textsection">{blocks.map((block) => <BlockView block={block} data={data} />)}</div>;
}

/** The card that a section tells about: that of the only reward model, or of the one it names. */
function cardOf(section: TextSection, stages: readonly Stage[]): Card | null {
  const carded = stages.filter((stage) => stage.card);
  if (section.id === "reward-model") return carded.length === 1 ? carded[0].card : null;
  return carded.find((stage) => section.id === `reward-model-${stage.name}`)?.card ?? null;
}

export function TextSections({ data }: { data: PageData }) {
  const { sections, stages } = data;
  return (
    <>
      {sections.map((section) => {
        const card = cardOf(section, stages);
        return (
          <Section id={section.id} title={section.title}>
            {card ? (
              <>
                <RewardCard card={card} />
                <details>
                  <summary>The whole report card</summary>
                  <Blocks blocks={section.blocks} data={data} />
                </details>
              </>
            ) : (
              <Blocks blocks={section.blocks} data={data} />
            )}
          </Section>
        );
      })}
    </>
  );
}
