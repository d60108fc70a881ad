// Builds one bundle a view into the Python package: `node build.mjs [VIEW ...] [--watch]`. A view is a folder of src/ with an index.tsx.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { context } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const asked = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const watch = process.argv.includes("--watch");
const views = (asked.length ? asked : ["grid", "diff", "rating", "page"]).filter((view) => existsSync(`${here}src/${view}/index.tsx`));

for (const view of views) {
  const made = await context({
    absWorkingDir: here,
    entryPoints: [{ in: `src/${view}/index.tsx`, out: view }],
    outdir: "../llmops_lab/widgets/static",
    bundle: true,
    minify: true,
    format: view === "page" ? "iife" : "esm", // a page is a plain script, so that it can stand inside one HTML file
    target: "es2022",
    tsconfig: "tsconfig.json",
    define: { "process.env.NODE_ENV": '"production"' },
    legalComments: "none",
    logLevel: "info",
  });
  if (watch) await made.watch();
  else {
    await made.rebuild();
    await made.dispose();
  }
}
