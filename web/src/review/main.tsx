// The page of `harken review`.
import { render } from "preact";
import "../styles/index.css";

render(<p>The review has no page yet.</p>, document.body);
