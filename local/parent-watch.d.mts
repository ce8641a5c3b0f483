/** Types of parent-watch.mjs, which is plain JavaScript because it runs before anything is installed. */
export function isOrphaned(): boolean;
export function watchParent(): void;
export function unwatchParent(): void;
