import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { queryClient } from "./lib/client.ts";
import { registerServiceWorker } from "./lib/device/app-update.ts";
import { App, firstScreen } from "./router.tsx";
import { watchLogOut } from "./lib/session.ts";
import { applyTheme, readTheme } from "./lib/theme.ts";
import "./styles/tokens.css";
import "./styles/components.css";
import "./styles/app.css";

applyTheme(readTheme());
registerServiceWorker();
watchLogOut();

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element #root");
void firstScreen.then(() =>
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queryClient}>
        <App />
      </QueryClientProvider>
    </StrictMode>,
  ),
);
