// The page of `harken review`.
import { render } from "preact";
import "../styles/theme.css";
import "../styles/frame.css";
import "./review.css";
import { followTheme } from "../page/theme";
import { press } from "./Choices";
import { browserStorage, packSource, unpack } from "./pack";
import { ReviewApp } from "./ReviewApp";
import { serverSource } from "./server";
import { createSession } from "./session";
import type { Source } from "./votes";

function source(): Source {
  const packed = document.getElementById("pack")?.textContent;
  if (packed) {
    const pack = unpack(packed);
    return packSource(pack, browserStorage(`harken.review.${pack.study.slice(0, 16)}.${pack.tasks[0]?.id ?? ""}`));
  }
  return serverSource(new URLSearchParams(location.hash.slice(1)).get("token") ?? "");
}

const session = createSession(source());
followTheme();
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (press(session, event.key.toLowerCase())) event.preventDefault();
});
render(<ReviewApp session={session} />, document.getElementById("review")!);
void session.load();
