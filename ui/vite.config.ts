/// How the console is built: one page, code split by page, every file also as gzip, which is what the program embeds.
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";
import solid from "vite-plugin-solid";

/// Only the compressed form stays: a client that takes none is given the file unpacked.
function compressed(): Plugin {
  const all = (dir: string): string[] =>
    readdirSync(dir).flatMap((name) => {
      const path = join(dir, name);
      return statSync(path).isDirectory() ? all(path) : [path];
    });
  return {
    name: "compressed",
    apply: "build",
    closeBundle() {
      for (const path of all("dist/pages").filter((path) => !path.endsWith(".gz"))) {
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
        rmSync(path);
      }
    },
  };
}

const server = process.env.MADANG_CONSOLE ?? "http://127.0.0.1:3000";
const behind = { target: server, ws: true };

export default defineConfig({
  plugins: [solid(), compressed()],
  build: { outDir: "dist/pages", target: "es2022", cssCodeSplit: true, modulePreload: { polyfill: false }, reportCompressedSize: true },
  server: {
    proxy: { "/session": behind, "/k8s": behind, "/prometheus": behind, "/alertmanager": behind, "/api": behind },
  },
});
