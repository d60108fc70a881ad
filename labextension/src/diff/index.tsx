import { widget } from "../kit/widget";
import { DiffView } from "./view";

export { DiffView };
export default widget(DiffView);
