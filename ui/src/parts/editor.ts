/// CodeMirror in the console's look, loaded with the pages that edit.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import { EditorView, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";

export interface Editor { set: (text: string) => void; get: () => string; destroy: () => void; focus: () => void }
export interface Options { text: string; label: string; extensions: Extension[]; onChange: (text: string) => void; lines?: boolean; keys?: { key: string; run: () => boolean }[]; placeholder?: string }

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "var(--accent)" },
  { tag: [tags.propertyName, tags.definition(tags.propertyName), tags.labelName], color: "var(--blue)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--green)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--amber)" },
  { tag: [tags.function(tags.variableName)], color: "var(--accent)", fontWeight: "600" },
  { tag: tags.comment, color: "var(--faint)" },
  { tag: tags.invalid, color: "var(--red)" },
]);
const look = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--surface)", height: "100%", fontSize: "13px" },
  ".cm-content": { fontFamily: "var(--mono)", caretColor: "var(--text)" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  "&.cm-focused": { outline: "none" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--faint)", border: "none" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground, ::selection": { backgroundColor: "var(--accent-wash) !important" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", border: "1px solid var(--line)", color: "var(--text)", borderRadius: "6px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--accent-text)" },
  ".cm-placeholder": { color: "var(--faint)" },
  ".cm-matchingBracket": { backgroundColor: "var(--accent-wash) !important" },
});

export function editor(parent: HTMLElement, options: Options): Editor {
  const language = new Compartment();
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        history(), closeBrackets(), bracketMatching(), autocompletion({ icons: false }), syntaxHighlighting(colours), look,
        keymap.of([...(options.keys ?? []), ...closeBracketsKeymap, ...completionKeymap, ...defaultKeymap, ...historyKeymap]),
        EditorView.contentAttributes.of({ "aria-label": options.label, tabindex: "0" }), EditorView.lineWrapping,
        EditorView.updateListener.of((update) => { if (update.docChanged) options.onChange(update.state.doc.toString()); }),
        ...(options.lines ? [lineNumbers()] : []), ...(options.placeholder ? [placeholder(options.placeholder)] : []),
        language.of(options.extensions),
      ],
    }),
  });
  return {
    set: (text) => { if (text !== view.state.doc.toString()) view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }); },
    get: () => view.state.doc.toString(), destroy: () => view.destroy(), focus: () => view.focus(),
  };
}
