#!/usr/bin/env node
/**
 * The `fencepost` command. It stands outside dist/ because npm links a command when it installs, and on a fresh clone
 * dist/ is not built yet; there, and only there, it is built now.
 */
import { existsSync } from 'node:fs';

const built = new URL('../dist/cli.js', import.meta.url);
const builder = new URL('../build.mjs', import.meta.url);
if (!existsSync(built) && existsSync(builder)) await import(builder.href);
await import(built.href);
