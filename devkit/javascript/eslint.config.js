// The style of the JavaScript in web/: modules for browsers, without a build step.

import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "module",
      globals: globals.browser,
    },
    rules: {
      curly: ["error", "multi-line"],
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "max-len": ["error", { code: 100 }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
    },
  },
  {
    // All contact with ComfyUI's frontend goes through the files in host/.
    files: ["web/**/*.js"],
    ignores: ["web/host/**"],
    rules: {
      "no-restricted-imports": ["error", { patterns: [{ regex: "^/" }] }],
      "no-restricted-globals": ["error", "app", "comfyAPI", "LiteGraph"],
    },
  },
];
