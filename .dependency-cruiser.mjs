/**
 * Who may import whom, `import type` included. A room is a file of src and the folder of the same name.
 * Imports run one way: Job ← Store, Llm, Webhook, OffloadConfig, Metrics ← Offload ← Http ← main, index.
 * A new room of src needs a line here. `test/source.test.ts` breaks each rule once.
 */
const rooms = {
  Job: {
    imports: [],
    comment: "Job is pure: the words, the shapes and the transitions, so that everything else can rest on it.",
  },
  OffloadConfig: {
    imports: ["Job"],
    comment: "Settings are read in one place, which every service above may ask; it knows none of them.",
  },
  Metrics: {
    imports: ["Job"],
    comment: "Metrics are names that services count with; they know none of the services.",
  },
  Redis: {
    imports: [],
    comment: "A connection, and how it fails. What stands in Redis is the affair of those who use it.",
  },
  Descriptors: {
    imports: [],
    comment: "What children would inherit is a matter of the process, whoever opened it.",
  },
  Log: {
    imports: [],
    comment: "How a line is written is no matter of what it says: main.ts alone chooses a logger.",
  },
  Signals: {
    imports: [],
    comment: "What a signal asks for says nothing of how it is done: main.ts alone listens.",
  },
  Store: {
    imports: ["Job", "OffloadConfig", "Metrics", "Redis", "Descriptors"],
    comment: "The store keeps jobs. It knows neither what runs them nor who asks, so that a backend can be swapped.",
  },
  Llm: {
    imports: ["Job", "OffloadConfig", "Metrics"],
    comment: "An LLM call is a process. It knows neither where jobs are kept nor who asks, so that it can be swapped.",
  },
  Webhook: {
    imports: ["Job", "OffloadConfig", "Metrics"],
    comment: "A webhook is one signed request. What is told, and how often it is tried, is not its affair.",
  },
  Offload: {
    imports: ["Job", "OffloadConfig", "Metrics", "Redis", "Store", "Llm", "Webhook"],
    comment:
      "Offload brings store, LLM and webhooks together. It knows nothing of HTTP: a program may embed it without.",
  },
  Api: {
    imports: ["Job"],
    comment: "A client imports the API contract alone: schemas and status codes must not bring a server along.",
  },
  Http: {
    imports: ["Job", "OffloadConfig", "Metrics", "Redis", "Offload", "Api"],
    comment: "Http asks Offload alone. A handler at the store or the LLM would go round the ceiling and the fork rule.",
  },
  Telemetry: {
    imports: ["OffloadConfig", "Metrics", "Offload"],
    comment: "Telemetry exports what the services count and trace; none of them knows of it.",
  },
  Client: {
    imports: ["Job", "Api"],
    comment: "The client runs in other programs: it needs the contract and no part of the server.",
  },
  Audit: {
    imports: ["Job"],
    comment: "The audit reads programs, this one too, and is no part of the service.",
  },
}

/** An optional peer dependency, which has no other kind of its own here. */
const compiler = "node_modules/typescript/"

const anyOf = (names) => `^src/(${names.join("|")})(\\.ts$|/)`

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    ...Object.entries(rooms).map(([room, { imports, comment }]) => ({
      name: `room-${room}`,
      comment: `${comment} It imports from src: ${imports.join(", ") || "nothing"}.`,
      severity: "error",
      from: { path: anyOf([room]) },
      to: { path: "^src/", pathNot: anyOf([room, ...imports]) },
    })),
    {
      name: "room-unknown",
      comment: "A file outside every room escapes the rules above: give it a room, or a line in `rooms`.",
      severity: "error",
      from: { path: "^src/", pathNot: [anyOf(Object.keys(rooms)), "^src/(main|index|bin)\\.ts$"] },
      to: {},
    },
    {
      name: "backend-by-main-alone",
      comment:
        "Only main.ts chooses backends, and index.ts hands them on; all others speak to the contract, so that any layer can be put in.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(main|index)\\.ts$" },
      to: {
        path: "^src/(Store/(Memory|Lmdb|Redis)|Llm/Subprocess|Webhook/Post|Offload/BullMq|Http/Allowances/Redis)\\.ts$",
      },
    },
    {
      name: "contract-only",
      comment:
        "What stands in Store/, Llm/ and Webhook/ belongs to the backends; their contracts are the files beside.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/((main|index)\\.ts$|Store/|Llm/|Webhook/)" },
      to: { path: "^src/(Store|Llm|Webhook)/" },
    },
    {
      name: "client-anywhere",
      comment: "The client and its contract run in browsers too, which have none of Node's modules.",
      severity: "error",
      from: { path: anyOf(["Client", "Api", "Job"]) },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "compiler-by-audit-alone",
      comment: "The audit uses the compiler of the program that it reads, and types of ours; a service needs none.",
      severity: "error",
      from: { path: "^src/", pathNot: anyOf(["Audit"]) },
      to: { path: compiler },
    },
    {
      name: "main-is-the-end",
      comment: "main.ts and bin.ts run when they are loaded: who imports main.ts starts a second service.",
      severity: "error",
      from: {},
      to: { path: "^src/(main|bin)\\.ts$" },
    },
    {
      name: "no-circular",
      comment: "In a circle no file can be read, tested or loaded before the other.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "src-alone",
      comment: "src is what is built: a file beside it (test, scripts, bench) does not exist for a user of dist.",
      severity: "error",
      from: { path: "^src/" },
      to: { pathNot: "^src/", dependencyTypes: ["local"] },
    },
    {
      name: "no-dev-dependency",
      comment: "A devDependency is not installed with the program; not even its types, which dist/*.d.ts would name.",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev"], pathNot: compiler },
    },
    {
      name: "declared",
      comment: "What package.json does not name, or what cannot be found, is there by accident.",
      severity: "error",
      from: { path: "^src/" },
      to: { pathNot: compiler, dependencyTypes: ["npm-no-pkg", "npm-unknown", "unknown", "undetermined"] },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    // Type-only imports count: a type is knowledge of another room.
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["types", "import", "node", "default"] },
  },
}
