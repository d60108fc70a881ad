import { widget } from "../kit/widget";
import { GridView } from "./view";

export default widget(GridView);
