// Makes dist/ of src/: what the runner embeds. The same sources and packages give the same bytes.
import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const out = process.argv[2] ?? "dist";
// The library makes styles of its own, which the page's policy refuses: they are made as the policy allows it.
const styles = {
  name: "styles",
  setup(build) {
    build.onLoad({ filter: /@xterm\/xterm\/lib\/xterm\.mjs$/ }, ({ path }) => {
      let text = readFileSync(path, "utf8");
      const replace = (pattern, by, count) => {
        const found = text.match(pattern)?.length ?? 0;
        if (found !== count) throw new Error(`${pattern}: ${found} places instead of ${count}`);
        text = text.replace(pattern, by);
      };
      replace(/[\w.]+\.createElement\("style"\)/g, "globalThis.runnerStyle()", 3);
      replace(/(\w+)\.setAttribute\("style",`\$\{\1\.getAttribute\("style"\)\|\|""\}\$\{(\w+)\};`\)/g, '$1.style.cssText+=$2+";"', 1);
      return { contents: text, loader: "js" };
    });
  },
};
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
  entryPoints: { page: "src/page.ts", terminal: "src/terminal/index.ts" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  external: ["./terminal.js"],
  plugins: [styles],
  logLevel: "warning",
});
await build({
  entryPoints: { page: "src/page.css", terminal: "src/terminal/terminal.css" },
  outdir: out,
  bundle: true,
  minify: true,
  target: "es2022",
  logLevel: "warning",
});
copyFileSync("src/index.html", `${out}/index.html`);
const packages = ["@xterm/xterm", "@xterm/addon-fit", "@xterm/addon-search", "@xterm/addon-web-links"];
const licences = packages.map((name) => {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  return `${name} ${version}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim()}\n`;
});
writeFileSync(`${out}/licences.txt`, licences.join("\n----\n\n"));
