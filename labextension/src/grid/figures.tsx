// Means with intervals and distributions for each variant, and the same for groups.
import { Interval } from "../kit/interval";
import { number, variantName } from "./format";
import type { Store } from "./store";
import type { Mean, Opened } from "./wire";

/** Counts as bars. Bars of several variants stand on the same edges, and have one scale of heights: `most`. */
function Bars({ counts, edges, most, label }: { counts: number[]; edges: number[]; most: number; label: string }) {
  const width = 96 / counts.length;
  const said = counts.map((count, at) => `${count} from ${number(edges[at])} to ${number(edges[at + 1])}`).join("; ");
  return (
    <svg class="llg-bars" width={96} height={18} viewBox="0 0 96 18" role="img" aria-label={`${label}: ${said}`}>
      <title>{`${label}: ${said}`}</title>
      {counts.map((count, at) => {
        const height = count ? Math.max(1, (count / most) * 17) : 0;
        return <rect key={at} x={at * width + 0.5} y={18 - height} width={Math.max(0.5, width - 1)} height={height} />;
      })}
    </svg>
  );
}

function Value({ mean, min, max, label }: { mean: Mean; min: number; max: number; label: string }) {
  const { value, low, high, n, scored } = mean;
  return (
    <span class="llg-value">
      <Interval value={value} low={low} high={high} min={min} max={max} width={110} label={label} />
      <span>
        {number(value)}
        {low !== null && high !== null && <span class="ll-muted"> [{number(low)}, {number(high)}]</span>}
        <span class="ll-muted"> n={scored}{scored < n ? ` of ${n}` : ""}</span>
      </span>
    </span>
  );
}

export function Figures({ store, opened }: { store: Store; opened: Opened }) {
  const figures = store.summary.value?.figures;
  if (!opened.scorers.length) return null; // the line above says so
  const names = opened.variants.map((pair) => variantName(pair, opened.variants));
  const most = Math.max(1, ...(figures?.variants.flatMap((each) => each.counts) ?? []));
  const [min, max] = [figures?.edges[0] ?? 0, figures?.edges.at(-1) ?? 1];
  return (
    <section class="llg-figures" aria-label="Figures">
      <label>
        score{" "}
        <select
          value={store.scorer.value}
          onChange={(event) => {
            store.scorer.value = event.currentTarget.value;
            store.figure();
          }}
        >
          {opened.scorers.map(({ name }) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <ul tabIndex={0} aria-label="Mean, interval and distribution of each variant">
        {names.map((name, at) => {
          const mine = figures?.variants[at];
          return (
            <li key={at}>
              <span class="llg-name" title={name}>{name}</span>
              {mine && figures && <Value mean={mine} min={min} max={max} label={`${name}, ${figures.scorer}`} />}
              {mine && figures && <Bars counts={mine.counts} edges={figures.edges} most={most} label={`${name}, cells by ${figures.scorer}`} />}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

export function GroupTable({ store, opened }: { store: Store; opened: Opened }) {
  const { value: groups } = store.groups;
  if (!store.by.value || !groups) return null;
  const means = groups.groups.flatMap((each) => each.variants);
  const bounds = means.flatMap((each) => [each.low, each.high, each.value]).filter((each) => each !== null);
  const inUnit = bounds.every((each) => each >= 0 && each <= 1);
  const [min, max] = inUnit || !bounds.length ? [0, 1] : [Math.min(...bounds), Math.max(...bounds)];
  const where = store.query.value.where;
  return (
    <div class="llg-groups" role="region" aria-label={`Groups by ${store.by.value}`} tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">{store.by.value}</th>
            <th scope="col">cells</th>
            {opened.variants.map((pair, at) => (
              <th key={at} scope="col">{variantName(pair, opened.variants)}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {groups.groups.map((each) => {
            const on = where?.[0] === store.by.value && where[1] === each.group;
            return (
              <tr key={each.group}>
                <th scope="row">
                  <button type="button" aria-pressed={on} title="Show only these" onClick={() => void store.look({ where: on ? null : [store.by.value, each.group] })}>
                    {each.group}
                  </button>
                </th>
                <td class="llg-number">{each.n.toLocaleString("en")}</td>
                {each.variants.map((mean, at) => (
                  <td key={at}>{mean.n ? <Value mean={mean} min={min} max={max} label={`${each.group}, ${variantName(opened.variants[at]!, opened.variants)}`} /> : "–"}</td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
      {groups.more > 0 && <p class="ll-muted">And {groups.more.toLocaleString("en")} smaller groups with {groups.more_cells.toLocaleString("en")} cells.</p>}
    </div>
  );
}
