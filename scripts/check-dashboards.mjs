// Type-checks provisioning/dashboards/*.json against Grafana's own types: every dashboard as a whole, and of each panel its options and
// field settings by the types of its plug-in. Prints each mistake with dashboard and panel; exit 1 if there is one.
//   node scripts/check-dashboards.mjs FOLDER      FOLDER/node_modules has @grafana/schema and typescript (check-dashboards.sh puts them there)
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const folder = resolve(process.argv[2]);
const ts = createRequire(join(folder, "package.json"))("typescript");
const source = "provisioning/dashboards";

// Types of options, and of the member `custom` of field settings, by plug-in: file and name in it. `null`: it has none.
const plugin = (kind, file) => `./node_modules/@grafana/schema/dist/esm/raw/composable/${kind}/panelcfg/x/${file}PanelCfg_types.gen`;
const kinds = {
  stat: [plugin("stat", "Stat"), null],
  table: [plugin("table", "Table"), "FieldConfig"],
  text: [plugin("text", "Text"), null],
  timeseries: [plugin("timeseries", "TimeSeries"), "FieldConfig"],
  nodeGraph: [plugin("nodegraph", "NodeGraph"), null],
};

const lines = [
  'import type { Dashboard, FieldConfig } from "@grafana/schema";',
  ...Object.entries(kinds).map(([kind, [file]]) => `import type * as ${kind} from "${file}";`),
  // JSON has no enums: a member of one is written as its value.
  "type Json<T> = T extends string ? `${T}` : T extends number ? number : T extends boolean | null | undefined ? T :",
  "  T extends (infer U)[] ? Json<U>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;",
];
const places = [];
const check = (type, value, place) => {
  places.push([lines.length, place]);
  lines.push(`{ const it: ${type} = ${JSON.stringify(value)}; void it; }`);
};
let panels = 0;
for (const name of readdirSync(source).filter((name) => name.endsWith(".json")).sort()) {
  const dashboard = JSON.parse(readFileSync(join(source, name), "utf8"));
  check("Json<Dashboard>", dashboard, name);
  for (const panel of dashboard.panels) {
    const place = `${name}: panel ${panel.id} (${panel.title})`;
    if (!kinds[panel.type]) {
      console.error(`${place}: no types are known for a panel of kind ${panel.type}`);
      process.exitCode = 1;
      continue;
    }
    panels += 1;
    const [, custom] = kinds[panel.type];
    check(`Json<${panel.type}.Options>`, panel.options, place);
    const fields = custom ? `Json<Partial<${panel.type}.${custom}>>` : "Record<string, never>";
    check(fields, panel.fieldConfig.defaults.custom ?? {}, place);
    for (const override of panel.fieldConfig.overrides) {
      // `custom.x` is a member of the plug-in's settings, `x` one of every field.
      const own = { custom: {}, common: {} };
      for (const { id, value } of override.properties) {
        if (id.startsWith("custom.")) own.custom[id.slice(7)] = value;
        else own.common[id] = value;
      }
      check(fields, own.custom, `${place}, override of ${override.matcher.options}`);
      check("Json<FieldConfig>", own.common, `${place}, override of ${override.matcher.options}`);
    }
  }
}
const file = join(folder, "dashboards.ts");
writeFileSync(file, lines.join("\n") + "\n");
const options = {
  strict: true, noEmit: true, skipLibCheck: true, exactOptionalPropertyTypes: false, types: [], target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
};
const program = ts.createProgram([file], options);
for (const found of ts.getPreEmitDiagnostics(program)) {
  process.exitCode = 1;
  const text = ts.flattenDiagnosticMessageText(found.messageText, "\n");
  const line = found.file?.fileName === file ? found.file.getLineAndCharacterOfPosition(found.start).line : -1;
  const place = places.find(([at]) => at === line)?.[1] ?? found.file?.fileName ?? "";
  console.error(`${place}: ${text}`);
}
if (panels === 0) {
  console.error("no panel was found");
  process.exitCode = 1;
}
if (!process.exitCode) console.log(`${panels} panels are of the types of @grafana/schema`);
