// Builds one bundle a view: `node build.mjs [VIEW ...] [--watch] [--out=FOLDER]`. A view is a folder of src/ with an index.tsx; without --out
// the bundles go into the Python package. THIRD-PARTY.txt beside them holds the licences of what is bundled.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { context } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const words = process.argv.slice(2);
const asked = words.filter((word) => !word.startsWith("--"));
const out = resolve(here, words.find((word) => word.startsWith("--out="))?.slice("--out=".length) ?? "../llmops_lab/widgets/static");
const views = (asked.length ? asked : ["grid", "diff", "rating", "job", "page"]).filter((view) => existsSync(`${here}/src/${view}/index.tsx`));

for (const view of views) {
  const made = await context({
    absWorkingDir: here,
    entryPoints: [{ in: `src/${view}/index.tsx`, out: view }],
    outdir: out,
    bundle: true,
    minify: true,
    format: view === "page" ? "iife" : "esm", // a page is a plain script, so that it can stand inside one HTML file
    target: "es2022",
    tsconfig: "tsconfig.json",
    define: { "process.env.NODE_ENV": '"production"' },
    legalComments: "none", // all licences stand in THIRD-PARTY.txt
    logLevel: "info",
  });
  if (words.includes("--watch")) await made.watch();
  else {
    await made.rebuild();
    await made.dispose();
  }
}
mkdirSync(out, { recursive: true });
writeFileSync(`${out}/THIRD-PARTY.txt`, notices(described(here)));

function described(folder) {
  return JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
}

/** Name, version and licence text of each package that a bundle may hold. */
function notices(project) {
  const found = new Map();
  const visit = (names) => {
    for (const name of names.filter((each) => !found.has(each))) {
      const folder = `${here}/node_modules/${name}`;
      const { version, license, dependencies = {} } = described(folder);
      const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
      found.set(name, `${name} ${version} (${license})\n\n${file ? readFileSync(`${folder}/${file}`, "utf8").trim() : ""}\n`);
      visit(Object.keys(dependencies));
    }
  };
  visit(Object.keys(project.dependencies));
  const line = `\n${"-".repeat(80)}\n`;
  return [...found.keys()].sort().map((name) => found.get(name)).join(line);
}
