import { widget } from "../kit/widget";
import { JobView } from "./card";

export { JobView };
export default widget(JobView);
