/** Types of lineage.mjs, which is plain JavaScript because it runs before anything is installed. */
export function isOrphaned(): boolean;
export function watchLineage(): void;
export function unwatchLineage(): void;
