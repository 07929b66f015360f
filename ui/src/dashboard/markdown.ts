/// Text panels: Markdown, or the HTML that dashboards bring. Elements are made one by one from a list of what is harmless, so no
/// script, style, frame or foreign request comes with a dashboard.

const TAGS = new Set(["A", "B", "BLOCKQUOTE", "BR", "CODE", "DIV", "EM", "H1", "H2", "H3", "H4", "H5", "H6", "HR", "I", "LI", "OL", "P", "PRE", "S", "SMALL", "SPAN", "STRONG", "SUB", "SUP", "TABLE", "TBODY", "TD", "TH", "THEAD", "TR", "U", "UL", "CENTER"]);
/// Elements whose content goes with them.
const GONE = new Set(["SCRIPT", "STYLE", "IFRAME", "OBJECT", "EMBED", "TEMPLATE", "SVG", "MATH", "NOSCRIPT", "TITLE", "HEAD", "FORM"]);

/// An address that a link may have: http, https, mail, or a path of this server.
export function safe(url: string | undefined): string | undefined {
  const text = (url ?? "").replace(/[\u0000-\u0020]/g, "");
  if (/^(https?:|mailto:)/i.test(text)) return url;
  return /^[/#?]/.test(text) && !text.startsWith("//") ? url : undefined;
}

/// A copy of what is harmless below `from`.
export function copied(from: Node, into: Node, depth = 0): void {
  if (depth > 40) return;
  for (const child of from.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) { into.appendChild(document.createTextNode(child.textContent ?? "")); continue; }
    if (child.nodeType !== Node.ELEMENT_NODE) continue;
    const element = child as Element, name = element.tagName.toUpperCase();
    if (GONE.has(name)) continue;
    if (!TAGS.has(name)) { copied(child, into, depth + 1); continue; }
    // The page has headings of its own above.
    const made = document.createElement(name === "CENTER" ? "div" : /^H[12]$/.test(name) ? "h3" : name.toLowerCase());
    if (name === "CENTER") made.style.textAlign = "center";
    if (name === "A") {
      const href = safe(element.getAttribute("href") ?? undefined);
      if (href) { made.setAttribute("href", href); if (/^https?:/i.test(href)) { made.setAttribute("target", "_blank"); made.setAttribute("rel", "noopener noreferrer"); } }
    }
    for (const span of ["colspan", "rowspan"]) { const value = element.getAttribute(span); if (value && /^\d{1,2}$/.test(value)) made.setAttribute(span, value); }
    copied(child, made, depth + 1);
    into.appendChild(made);
  }
}

export const escaped = (text: string) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);
const inline = (text: string) => text
  .replace(/`([^`]+)`/g, (_all, code: string) => `<code>${escaped(code)}</code>`)
  .replace(/!\[[^\]]*\]\([^)]*\)/g, "")
  .replace(/\[([^\]]+)\]\(([^)\s]+)[^)]*\)/g, (_all, words: string, url: string) => `<a href="${escaped(url)}">${words}</a>`)
  .replace(/\*\*([^*]+)\*\*|__([^_]+)__/g, (_all, a?: string, b?: string) => `<strong>${a ?? b}</strong>`)
  .replace(/(^|\W)\*([^*\s][^*]*)\*/g, "$1<em>$2</em>").replace(/~~([^~]+)~~/g, "<s>$1</s>");

/// Markdown as HTML: headings, lists, quotes, code, tables, rules, paragraphs. What it gives is copied through the list above.
export function markdown(text: string): string {
  const out: string[] = [];
  const lines = text.split(/\r?\n/);
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at]!;
    let found: RegExpExecArray | null;
    if (/^\s*```/.test(line)) {
      const code: string[] = [];
      while (++at < lines.length && !/^\s*```/.test(lines[at]!)) code.push(lines[at]!);
      out.push(`<pre><code>${escaped(code.join("\n"))}</code></pre>`);
    } else if ((found = /^(#{1,6})\s+(.*)$/.exec(line))) out.push(`<h${found[1]!.length}>${inline(found[2]!)}</h${found[1]!.length}>`);
    else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) out.push("<hr>");
    else if (/^\s*([-*+]|\d+[.)])\s+/.test(line)) {
      const ordered = /^\s*\d/.test(line), items: string[] = [];
      while (at < lines.length && (found = /^\s*(?:[-*+]|\d+[.)])\s+(.*)$/.exec(lines[at]!))) { items.push(`<li>${inline(found[1]!)}</li>`); at += 1; }
      at -= 1;
      out.push(ordered ? `<ol>${items.join("")}</ol>` : `<ul>${items.join("")}</ul>`);
    } else if (/^>\s?/.test(line)) out.push(`<blockquote>${inline(line.replace(/^>\s?/, ""))}</blockquote>`);
    else if (/^\|.*\|\s*$/.test(line)) {
      const rows: string[] = [];
      while (at < lines.length && /^\|.*\|\s*$/.test(lines[at]!)) { if (!/^\|[\s:|-]+\|\s*$/.test(lines[at]!)) rows.push(`<tr>${lines[at]!.trim().slice(1, -1).split("|").map((cell) => `<td>${inline(cell.trim())}</td>`).join("")}</tr>`); at += 1; }
      at -= 1;
      out.push(`<table><tbody>${rows.join("")}</tbody></table>`);
    } else if (/^\s*</.test(line)) out.push(line);
    else if (line.trim()) out.push(`<p>${inline(line)}</p>`);
  }
  return out.join("\n");
}
