/// Tests of what is pure: no browser, and no components.
import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["tests/**/*.test.ts"], setupFiles: ["tests/setup.ts"], environment: "node", env: { TZ: "UTC" } } });
