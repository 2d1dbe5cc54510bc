/** The build of the web app. The server serves `dist/web`; nothing in it comes from elsewhere. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  root: import.meta.dirname,
  plugins: [react()],
  build: {
    outDir: "../dist/web",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  // `npx vite` beside a running `npm start`.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:7080", ws: true } } },
});
