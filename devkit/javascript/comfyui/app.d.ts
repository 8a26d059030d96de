// What the pack relies on in ComfyUI's /scripts/app.js. Node objects stay "any": their shape
// differs between the classic canvas and Nodes 2.0.

interface Extension {
  name: string;
  [hook: string]: unknown;
}

interface Toast {
  severity: "info" | "warn" | "error" | "success" | "secondary" | "contrast";
  summary?: string;
  detail?: string;
  /** In milliseconds; without it the message stays. */
  life?: number;
}

interface ExtensionManager {
  toast: { add(message: Toast): void; remove?(message: Toast): void };
  command: { execute(name: string): Promise<void> };
  setting: { get(name: string): any; set(name: string, value: unknown): Promise<void> };
  [name: string]: any;
}

export interface App {
  extensions: Extension[];
  extensionManager: ExtensionManager;
  registerExtension(extension: Extension): void;
  canvas: any;
  graph: any;
  [name: string]: any;
}

export const app: App;
