// Where it got better or worse: groups of rows, with counts, interval, and the tests' word on them.
import { Interval } from "../kit/interval";
import { rounded } from "../kit/rounded";
import { short } from "./list";
import type { Store } from "./store";
import type { SliceOf } from "./wire";

export function SlicesTab({ store }: { store: Store }) {
  const note = store.opened.value?.slices_note || store.slicesTrouble.value;
  if (note) return <p class="ll-warn">No slices: {note}</p>;
  const told = store.slices.value;
  if (!told) return <p class="ll-muted">Looking for slices …</p>;
  const found = told.slices.filter((slice) => slice.found);
  const rest = told.slices.filter((slice) => !slice.found);
  const level = `${short(100 * told.level)} %`;
  return (
    <div class="ll-slices">
      <p>
        {found.length ? `${found.length} ${found.length === 1 ? "slice" : "slices"} found` : "No slice found"} among {told.groups} groups of rows (columns, lengths, words), {told.tested} of them with enough rows that differ to be tested:
        paired tests, false discovery rate held at {level} (Benjamini and Hochberg){found.length > 0 && `, so about ${level} of those found may be chance`}. Intervals are 95 %, each for its slice alone.
      </p>
      {store.opened.value?.values_note && <p class="ll-muted">By the replies only: {store.opened.value.values_note}.</p>}
      <Table store={store} caption="Found" slices={found} />
      <Table store={store} caption="Columns in which no difference was shown" slices={rest} />
      {told.left_out > 0 && <p class="ll-muted">{told.left_out} more: d.slices() in Python has them all.</p>}
    </div>
  );
}

function Table({ store, caption, slices }: { store: Store; caption: string; slices: SliceOf[] }) {
  if (!slices.length) return null;
  const numbers = slices.flatMap((slice) => [slice.low, slice.high, slice.delta]).filter((value): value is number => value !== null);
  const reach = Math.max(1e-9, ...numbers.map(Math.abs));
  return (
    <div class="ll-scroll" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {["slice", "rows", "better", "worse", "equal", "difference", "elsewhere", "q"].map((title) => (
              <th scope="col">{title}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {slices.map((slice) => (
            <tr key={slice.at}>
              <th scope="row">
                <button class="ll-link-button" title={slice.also && `the same rows: ${slice.also}`} onClick={() => void store.list(() => ((store.slice.value = slice), (store.filter.value = "all"), (store.tab.value = "rows")))}>
                  {slice.slice}
                </button>
                {slice.unlike && <span class="ll-tag">unlike the rest</span>}
                {slice.also && <div class="ll-muted ll-also">same rows: {slice.also}</div>}
              </th>
              <td>{slice.n}</td>
              <td class={slice.wins ? "ll-good" : ""}>{slice.wins}</td>
              <td class={slice.losses ? "ll-bad" : ""}>{slice.losses}</td>
              <td>{slice.ties}</td>
              <td>
                {signed(slice.delta)} <Interval value={slice.delta} low={slice.low} high={slice.high} min={-reach} max={reach} zero={0} label="difference" />
              </td>
              <td>{signed(slice.rest)}</td>
              <td>{slice.q_value === null ? <span title="too few rows differ to be tested">–</span> : rounded(slice.q_value, 2)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function signed(value: number | null): string {
  if (value === null) return "–";
  const text = value.toFixed(3);
  return value > 0 ? `+${text}` : text.replace("-", "−");
}
