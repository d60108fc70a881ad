// A value with its interval on a common scale.
import { rounded } from "./rounded";

/** A dot with whiskers. A missing value draws nothing and says so; `zero` marks a point of reference. */
export function Interval(given: {
  value: number | null;
  low?: number | null;
  high?: number | null;
  min: number;
  max: number;
  zero?: number;
  width?: number;
  label?: string;
}) {
  const { value, low, high, min, max, zero, width = 120 } = given;
  const usable = (n: number | null | undefined): n is number => typeof n === "number" && Number.isFinite(n);
  const said = !usable(value) ? "no value" : usable(low) && usable(high) ? `${rounded(value)}, interval ${rounded(low)} to ${rounded(high)}` : rounded(value);
  const name = given.label ? `${given.label}: ${said}` : said;
  const place = (n: number) => 4 + (max > min ? Math.min(1, Math.max(0, (n - min) / (max - min))) : 0.5) * (width - 8);
  return (
    <svg class="ll-interval" width={width} height={16} viewBox={`0 0 ${width} 16`} role="img" aria-label={name}>
      <title>{name}</title>
      <line class="ll-interval-axis" x1={4} x2={width - 4} y1={8} y2={8} />
      {usable(zero) && <line class="ll-interval-zero" x1={place(zero)} x2={place(zero)} y1={1} y2={15} />}
      {usable(value) && usable(low) && usable(high) && <line class="ll-interval-range" x1={place(low)} x2={place(high)} y1={8} y2={8} />}
      {usable(value) && <circle class="ll-interval-value" cx={place(value)} cy={8} r={3.5} />}
    </svg>
  );
}
