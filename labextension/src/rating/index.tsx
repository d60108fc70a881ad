import { widget } from "../kit/widget";
import { RatingView } from "./panel";

export default widget(RatingView);
