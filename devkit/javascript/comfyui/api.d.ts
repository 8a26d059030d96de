// What the pack relies on in ComfyUI's /scripts/api.js.

export interface Api extends EventTarget {
  /** The address of a route of the server, such as "/view". */
  apiURL(route: string): string;
  fetchApi(route: string, options?: RequestInit): Promise<Response>;
  [name: string]: any;
}

export const api: Api;
