// The official OpenAI SDK against the edge, with only the base URL and the key changed.
//
// CHATMESH_URL is the edge's address, CHATMESH_TOKEN the bearer token. Exits with 0 when everything is as the SDK's
// users expect.
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from "openai";

const question = [{ role: "user" as const, content: "Count from one to ten." }];

async function stream(client: OpenAI): Promise<void> {
  const chunks = await client.chat.completions.create({
    model: "auto",
    messages: question,
    max_tokens: 48,
    stream: true,
    stream_options: { include_usage: true },
  });
  let deltas = 0;
  let finishes = 0;
  let tokens = 0;
  for await (const chunk of chunks) {
    const choice = chunk.choices[0];
    if (choice?.delta.content) {
      deltas += 1;
      process.stdout.write(choice.delta.content);
    }
    if (choice?.finish_reason) finishes += 1;
    tokens = chunk.usage?.completion_tokens ?? tokens;
  }
  process.stdout.write("\n");
  if (deltas === 0 || finishes !== 1 || tokens === 0) {
    throw new Error(`${deltas} deltas, ${finishes} finish reasons, usage of ${tokens} tokens`);
  }
}

async function whole(client: OpenAI): Promise<void> {
  const answer = await client.chat.completions.create({ model: "auto", messages: question, max_tokens: 8 });
  if (!answer.choices[0]?.message.content) throw new Error("an answer without text");
  const models = await client.models.list();
  if (!models.data.some((model) => model.id === "auto")) throw new Error("the models do not list auto");
}

async function raises(kind: new (...args: never[]) => Error, what: string, call: () => Promise<unknown>): Promise<void> {
  const error = await call().then(() => undefined, (reason: unknown) => reason);
  if (!(error instanceof kind)) throw new Error(`${what}: ${error} instead of ${kind.name}`);
}

async function errors(client: OpenAI, baseURL: string): Promise<void> {
  const stranger = new OpenAI({ apiKey: "not-a-token", baseURL, maxRetries: 0 });
  await raises(AuthenticationError, "a forged token", () => stranger.models.list());
  await raises(NotFoundError, "an unknown model", () =>
    client.chat.completions.create({ model: "no-such-model", messages: question }),
  );
  await raises(BadRequestError, "no messages", () => client.chat.completions.create({ model: "auto", messages: [] }));
}

async function main(): Promise<void> {
  const { CHATMESH_URL: url, CHATMESH_TOKEN: token } = process.env;
  if (!url || !token) throw new Error("CHATMESH_URL and CHATMESH_TOKEN must be set");
  const baseURL = `${url}/v1`;
  const client = new OpenAI({ apiKey: token, baseURL, maxRetries: 0, timeout: 90_000 });
  await stream(client);
  await whole(client);
  await errors(client, baseURL);
}

main().catch((error: unknown) => {
  console.error("openai client:", error);
  process.exitCode = 1;
});
