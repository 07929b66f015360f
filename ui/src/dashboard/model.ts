/// Grafana's classic dashboard JSON, as far as it is drawn, and old forms brought to the newest.
/// https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
import type { FieldSettings } from "./field";
import type { Transformation } from "./transform";
import type { FieldConfig, Link } from "./frame";

export interface Target { refId?: string; expr?: string; legendFormat?: string; format?: string; instant?: boolean; range?: boolean; interval?: string; hide?: boolean; datasource?: unknown; intervalFactor?: number; step?: number }
export interface Panel {
  id?: number; type: string; title?: string; description?: string; gridPos?: { x: number; y: number; w: number; h: number }; targets?: Target[]; fieldConfig?: FieldSettings; options?: Record<string, any>;
  transformations?: Transformation[]; repeat?: string; repeatDirection?: string; maxPerRow?: number; collapsed?: boolean; panels?: Panel[]; links?: Link[]; transparent?: boolean; interval?: string; timeFrom?: string; timeShift?: string; maxDataPoints?: number;
  scopedVars?: Record<string, { value: string; text: string }>;
}
export interface VariableModel {
  name: string; type: string; label?: string; query?: unknown; definition?: string; regex?: string; sort?: number; multi?: boolean; includeAll?: boolean; allValue?: string | null; hide?: number; current?: { value?: unknown; text?: unknown };
  options?: { value: string; text: string; selected?: boolean }[]; refresh?: number; auto?: boolean; auto_count?: number; auto_min?: string; skipUrlSync?: boolean; filters?: { key: string; operator: string; value: string }[];
}
export interface DashboardModel {
  uid: string; title: string; description?: string; tags?: string[]; panels?: Panel[]; rows?: OldRow[]; templating?: { list?: VariableModel[] }; time?: { from: string; to: string }; refresh?: string | false; links?: (Link & { type?: string; tags?: string[]; asDropdown?: boolean; includeVars?: boolean; keepTime?: boolean })[]; annotations?: unknown; version?: number;
}
interface OldRow { title?: string; collapse?: boolean; height?: string | number; showTitle?: boolean; repeat?: string; panels?: (Panel & { span?: number })[] }

const list = <T>(value: T[] | undefined): T[] => (Array.isArray(value) ? value : []);

/// Old panel types by their new names; settings that moved are moved.
function newest(old: Panel): Panel {
  const panel = { ...old } as Panel & Record<string, any>;
  // Queries without a letter have those of their places.
  if (panel.targets) panel.targets = list(panel.targets).map((target, at) => ({ ...target, refId: target.refId || String.fromCharCode(65 + (at % 26)) }));
  const axis = list(panel.yaxes)[0] as { format?: string; min?: string | number | null; max?: string | number | null } | undefined;
  const defaults: FieldConfig = { ...panel.fieldConfig?.defaults };
  const number = (value: unknown) => (value === null || value === undefined || value === "" || Number.isNaN(Number(value)) ? undefined : Number(value));
  if (panel.type === "graph") {
    panel.type = "timeseries";
    if (axis?.format) defaults.unit ??= axis.format;
    if (number(axis?.min) !== undefined) defaults.min ??= number(axis?.min);
    if (number(axis?.max) !== undefined) defaults.max ??= number(axis?.max);
    defaults.custom = { fillOpacity: Number(panel.fill ?? 1) * 10, lineWidth: panel.linewidth ?? 1, drawStyle: panel.bars ? "bars" : panel.lines === false ? "points" : "line", ...(panel.stack ? { stacking: { mode: panel.percentage ? "percent" : "normal", group: "A" } } : {}), ...(panel.nullPointMode === "connected" ? { spanNulls: true } : {}), ...(panel.steppedLine ? { lineInterpolation: "stepAfter" } : {}), ...defaults.custom };
    const shown = panel.legend ?? {};
    panel.options = { legend: { showLegend: shown.show !== false, displayMode: shown.alignAsTable ? "table" : "list", placement: shown.rightSide ? "right" : "bottom", calcs: Object.entries({ min: shown.min, max: shown.max, mean: shown.avg, lastNotNull: shown.current, sum: shown.total }).filter(([, on]) => on).map(([name]) => name) }, ...panel.options };
    const overrides = [...(panel.fieldConfig?.overrides ?? [])];
    for (const one of list(panel.seriesOverrides as Record<string, any>[] | undefined)) {
      const properties = [one.color ? { id: "color", value: { mode: "fixed", fixedColor: one.color } } : undefined, one.transform === "negative-Y" ? { id: "custom.transform", value: "negative-Y" } : undefined, one.yaxis === 2 ? { id: "custom.axisPlacement", value: "right" } : undefined, one.yaxis === 2 && list(panel.yaxes)[1] ? { id: "unit", value: (list(panel.yaxes)[1] as { format?: string }).format } : undefined, one.fill !== undefined ? { id: "custom.fillOpacity", value: one.fill * 10 } : undefined, one.stack !== undefined ? { id: "custom.stacking", value: { mode: one.stack ? "normal" : "none", group: String(one.stack) } } : undefined, one.linewidth !== undefined ? { id: "custom.lineWidth", value: one.linewidth } : undefined].filter((property) => property !== undefined);
      overrides.push({ matcher: { id: "byRegexp", options: String(one.alias ?? "").startsWith("/") ? one.alias : `/^${String(one.alias).replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$/` }, properties });
    }
    for (const [name, value] of Object.entries((panel.aliasColors ?? {}) as Record<string, string>)) overrides.push({ matcher: { id: "byName", options: name }, properties: [{ id: "color", value: { mode: "fixed", fixedColor: value } }] });
    panel.fieldConfig = { defaults, overrides };
  } else if (panel.type === "singlestat" || panel.type === "grafana-singlestat-panel") {
    panel.type = panel.gauge?.show ? "gauge" : "stat";
    defaults.unit ??= panel.format;
    defaults.decimals ??= panel.decimals;
    const steps = String(panel.thresholds ?? "").split(",").filter(Boolean).map(Number);
    if (steps.length) defaults.thresholds ??= { mode: "absolute", steps: [null, ...steps].map((value, at) => ({ value, color: (panel.colors as string[] | undefined)?.[at] ?? "green" })) };
    if (panel.gauge?.show) { defaults.min ??= panel.gauge.minValue; defaults.max ??= panel.gauge.maxValue; }
    const calc = ({ avg: "mean", current: "lastNotNull", total: "sum" } as Record<string, string>)[panel.valueName] ?? panel.valueName ?? "mean";
    defaults.mappings ??= list(panel.valueMaps as { value: string; text: string }[] | undefined).map((one) => ({ type: "value", options: { [one.value]: { text: one.text } } }));
    panel.options = { reduceOptions: { calcs: [calc] }, graphMode: panel.sparkline?.show ? "area" : "none", colorMode: panel.colorBackground ? "background" : panel.colorValue ? "value" : "none", ...panel.options };
    panel.fieldConfig = { defaults, overrides: panel.fieldConfig?.overrides ?? [] };
  } else if (panel.type === "table-old") panel.type = "table";
  else if (panel.type === "text" && panel.content !== undefined) panel.options = { mode: panel.mode ?? "markdown", content: panel.content, ...panel.options };
  if (typeof panel.fieldConfig?.defaults?.mappings === "object") panel.fieldConfig.defaults.mappings = list(panel.fieldConfig.defaults.mappings);
  return panel;
}

/// Rows and panels in their order, whatever the schema's version.
export function panelsOf(model: DashboardModel): Panel[] {
  if (model.rows && !model.panels?.length) {
    const out: Panel[] = [];
    let y = 0, id = 10_000;
    for (const row of list(model.rows)) {
      const height = Math.max(3, Math.round((typeof row.height === "number" ? row.height : parseInt(String(row.height ?? "250"), 10) || 250) / 38));
      let x = 0;
      const inside: Panel[] = [];
      const head = row.showTitle || row.collapse || row.repeat;
      if (head) { out.push({ id: id++, type: "row", title: row.title ?? "", collapsed: row.collapse ?? false, gridPos: { x: 0, y, w: 24, h: 1 }, panels: [], ...(row.repeat ? { repeat: row.repeat } : {}) }); y += 1; }
      for (const panel of list(row.panels)) {
        const w = Math.max(1, Math.min(24, (panel.span ?? 4) * 2));
        if (x + w > 24) { x = 0; y += height; }
        inside.push(newest({ ...panel, gridPos: { x, y, w, h: height } }));
        x += w;
      }
      y += height;
      if (row.collapse && head) out[out.length - 1]!.panels = inside;
      else out.push(...inside);
    }
    return out;
  }
  return list(model.panels).map((panel) => (panel.type === "row" ? { ...panel, panels: list(panel.panels).map(newest) } : newest(panel)));
}

export interface Section { row?: Panel; panels: Panel[]; collapsed: boolean }

/// Panels below the row that they belong to.
export function sections(panels: Panel[]): Section[] {
  const out: Section[] = [{ panels: [], collapsed: false }];
  const sorted = panels.map((panel, at) => ({ panel, at })).sort((a, b) => (a.panel.gridPos?.y ?? 0) - (b.panel.gridPos?.y ?? 0) || (a.panel.gridPos?.x ?? 0) - (b.panel.gridPos?.x ?? 0) || a.at - b.at);
  for (const { panel } of sorted) {
    if (panel.type === "row") out.push({ row: panel, panels: [...(panel.panels ?? [])], collapsed: panel.collapsed ?? false });
    else out[out.length - 1]!.panels.push(panel);
  }
  return out.filter((section) => section.row || section.panels.length);
}
