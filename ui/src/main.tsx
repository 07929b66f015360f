/// Begins: the language, who is signed in, then the frame or the door.
import "./styles.css";
import { createEffect, Match, Switch } from "solid-js";
import { render } from "solid-js/web";
import { dark } from "./colours";
import { Frame, preload } from "./Frame";
import { SignIn } from "./pages/SignIn";
import { lookUp, person } from "./session";
import { startLanguage } from "./words";

function App() {
  createEffect(() => document.documentElement.setAttribute("data-theme", dark() ? "dark" : "light"));
  return (
    <Switch>
      <Match when={person() === null}><SignIn /></Match>
      <Match when={person()}><Frame /></Match>
    </Switch>
  );
}

// The page that is asked for comes while the server says who asks; one that does not come is asked for again where it is shown.
preload(location.pathname);
void Promise.all([startLanguage(), lookUp()]).then(() => render(() => <App />, document.getElementById("root")!));
