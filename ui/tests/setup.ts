/// What modules ask of a browser when they are loaded; nothing of it is tested here.
const none = () => undefined;
const store = new Map<string, string>();
Object.assign(globalThis, {
  localStorage: { getItem: (key: string) => store.get(key) ?? null, setItem: (key: string, value: string) => store.set(key, value), removeItem: (key: string) => store.delete(key) },
  location: new URL("http://127.0.0.1:3000/"),
  document: { addEventListener: none, documentElement: { lang: "en" }, hidden: false },
});
Object.assign(globalThis, { window: globalThis, addEventListener: none, matchMedia: () => ({ matches: false, addEventListener: none }), getComputedStyle: () => ({ getPropertyValue: () => "#000000" }) });
Object.defineProperty(globalThis, "navigator", { value: { language: "en-US" }, configurable: true });
export {};
