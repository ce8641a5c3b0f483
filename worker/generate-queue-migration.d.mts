export declare function queueMigration(from?: number): string;
