/// Signing in: by the code behind `#` of the link that `madang console` prints, or with a token.
import { createSignal, onMount, Show } from "solid-js";
import { go, hash, path } from "../router";
import { signIn } from "../session";
import { t } from "../words";

export function SignIn() {
  const [token, setToken] = createSignal("");
  const [error, setError] = createSignal<string>();
  const [busy, setBusy] = createSignal(false);
  const enter = async (how: { token: string } | { code: string }) => {
    setBusy(true);
    try {
      const refused = await signIn(how);
      setError(refused);
      if (!refused && path() === "/sign-in") go("/", true);
    } catch {
      setError(t("error.network"));
    }
    setBusy(false);
  };
  onMount(() => {
    document.title = `${t("signIn.title")}`;
    const code = path() === "/sign-in" ? hash() : "";
    if (!code) return;
    // The code is good once: it must not stay in the address.
    history.replaceState(null, "", "/sign-in");
    void enter({ code });
  });
  return (
    <main class="door">
      <div class="card">
        <div class="row"><img src="/icon.svg" width="32" height="32" alt="" /><h1>{t("signIn.title")}</h1></div>
        <div class="stack">
          <p class="soft">{t("signIn.how")}</p>
          <pre class="field" tabindex="0"><code>sudo madang console</code></pre>
        </div>
        <form class="stack" onSubmit={(event) => { event.preventDefault(); void enter({ token: token() }); }}>
          <p class="soft">{t("signIn.other")}</p>
          <label><span>{t("signIn.token")}</span>
            <input class="field mono" type="password" autocomplete="current-password" required value={token()} onInput={(event) => setToken(event.currentTarget.value)} /></label>
          <Show when={error()}><p class="wrong" role="alert">{t("signIn.failed")}: {error()}</p></Show>
          <button class="button primary" type="submit" disabled={busy()}>{busy() ? t("signIn.busy") : t("signIn.go")}</button>
        </form>
      </div>
    </main>
  );
}
