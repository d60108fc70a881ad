// How the scores of each variant are spread, on one scale.
import { short } from "./list";
import type { Opened, Variant } from "./wire";

const WIDTH = 320;
const HEIGHT = 90;
const FOOT = 18;

export function Scores({ opened }: { opened: Opened }) {
  if (!opened.edges.length) return <p class="ll-muted">No scores to draw.</p>;
  const most = Math.max(1, ...opened.variants.flatMap((variant) => variant.histogram));
  return (
    <div class="ll-histograms">
      {opened.variants.map((variant) => (
        <figure>
          <figcaption>
            <b>{variant.name}</b>{" "}
            <span class="ll-muted">
              mean {short(variant.mean)} of {variant.scored} rows{variant.scored < opened.rows && `, ${opened.rows - variant.scored} without a score`}
            </span>
          </figcaption>
          <Histogram variant={variant} edges={opened.edges} most={most} scorer={opened.scorer?.name ?? ""} />
        </figure>
      ))}
    </div>
  );
}

function Histogram({ variant, edges, most, scorer }: { variant: Variant; edges: number[]; most: number; scorer: string }) {
  const halves = edges.length === 3; // true/false, or shares of them
  const width = WIDTH / variant.histogram.length;
  const name = (at: number) => (halves ? ["below a half", "a half or more"][at]! : `${short(edges[at]!)} to ${short(edges[at + 1]!)}`);
  const said = variant.histogram.map((count, at) => `${count} at ${name(at)}`).filter((_, at) => variant.histogram[at]);
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT + FOOT + 12}`} role="img" aria-label={`${scorer} of ${variant.name}: ${said.join(", ") || "no scores"}`} class="ll-histogram">
      {variant.histogram.map((count, at) => {
        const height = (count / most) * HEIGHT;
        return (
          <g>
            <rect x={at * width + 1} width={Math.max(1, width - 2)} y={12 + HEIGHT - height} height={height}>
              <title>{`${name(at)}: ${count} rows`}</title>
            </rect>
            {count > 0 && (
              <text x={(at + 0.5) * width} y={9 + HEIGHT - height} text-anchor="middle">
                {count}
              </text>
            )}
          </g>
        );
      })}
      <line x1={0} x2={WIDTH} y1={12 + HEIGHT} y2={12 + HEIGHT} />
      {halves ? (
        [0, 1].map((at) => (
          <text x={(at + 0.5) * width} y={HEIGHT + FOOT + 8} text-anchor="middle">
            {at}
          </text>
        ))
      ) : (
        <>
          <text x={0} y={HEIGHT + FOOT + 8}>
            {short(edges[0]!)}
          </text>
          <text x={WIDTH} y={HEIGHT + FOOT + 8} text-anchor="end">
            {short(edges.at(-1)!)}
          </text>
        </>
      )}
    </svg>
  );
}
