// What the official OpenAI SDK can ask for beside the text of one answer: several of them, tools, forms,
// log-probabilities, embeddings; and errors that name the parameter.
//
// CHATMESH_URL is the edge's address, CHATMESH_TOKEN the bearer token. Exits with 0 when everything is as the SDK's
// users expect.
import OpenAI, { BadRequestError } from "openai";
import type { ChatCompletionFunctionTool, ChatCompletionMessageParam } from "openai/resources/chat/completions";

const MODEL = "smollm2-135m";
const EMBEDDER = "all-minilm-l6-v2";
const question: ChatCompletionMessageParam[] = [{ role: "user", content: "What is the weather in Paris?" }];
const weather: ChatCompletionFunctionTool = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Tells the weather of a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

function check(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

async function severalAnswers(client: OpenAI): Promise<void> {
  const done = await client.chat.completions.create({ model: MODEL, messages: question, n: 2, max_tokens: 8, seed: 1 });
  check(done.choices.map((choice) => choice.index).join() === "0,1", "two answers");
  const chunks = await client.chat.completions.create({
    model: MODEL,
    messages: question,
    n: 2,
    max_tokens: 8,
    stream: true,
  });
  const texts = ["", ""];
  for await (const chunk of chunks) {
    for (const choice of chunk.choices) texts[choice.index] += choice.delta.content ?? "";
  }
  check(texts[0] && texts[1], `two streams of text, not ${JSON.stringify(texts)}`);
}

async function logProbabilities(client: OpenAI): Promise<void> {
  const done = await client.chat.completions.create({
    model: MODEL,
    messages: question,
    max_tokens: 6,
    logprobs: true,
    top_logprobs: 2,
  });
  const tokens = done.choices[0]?.logprobs?.content ?? [];
  check(tokens.length > 0 && tokens.every((token) => token.logprob <= 0), "log-probabilities");
  check(tokens.every((token) => token.top_logprobs.length === 2), "the two likeliest of each");
  const text = Buffer.from(tokens.flatMap((token) => token.bytes ?? [])).toString();
  check(done.choices[0]?.message.content?.startsWith(text), `tokens of the text, not ${text}`);
}

async function tools(client: OpenAI): Promise<void> {
  const messages = [...question];
  const done = await client.chat.completions.create({
    model: MODEL,
    messages,
    tools: [weather],
    tool_choice: "required",
    max_tokens: 80,
  });
  const choice = done.choices[0];
  check(choice?.finish_reason === "tool_calls" && choice.message.content === null, "an answer that asks for a tool");
  messages.push(choice.message);
  for (const call of choice.message.tool_calls ?? []) {
    check(call.type === "function", "a call of a function");
    check(typeof JSON.parse(call.function.arguments).city === "string", "arguments of the schema");
    messages.push({ role: "tool", tool_call_id: call.id, content: "12 degrees and rain" });
  }
  check(messages.length > 2, "a call");
  const answer = await client.chat.completions.create({
    model: MODEL,
    messages,
    tools: [weather],
    tool_choice: "none",
    max_tokens: 24,
  });
  check(answer.choices[0]?.message.content, "an answer to the result");
  process.stdout.write(`${answer.choices[0].message.content}\n`);

  const stream = client.chat.completions.stream({
    model: MODEL,
    messages: question,
    tools: [weather],
    tool_choice: { type: "function", function: { name: "get_weather" } },
    max_tokens: 80,
  });
  const streamed = (await stream.finalChatCompletion()).choices[0];
  check(streamed?.finish_reason === "tool_calls" && streamed.message.tool_calls?.length, "a call in a stream");
}

async function forms(client: OpenAI): Promise<void> {
  const done = await client.chat.completions.parse({
    model: MODEL,
    messages: [{ role: "user", content: "Bob is 30 years old. Who is he?" }],
    max_tokens: 80,
    response_format: {
      type: "json_schema",
      json_schema: {
        name: "person",
        strict: true,
        schema: {
          type: "object",
          properties: { name: { type: "string" }, age: { type: "integer" } },
          required: ["name", "age"],
          additionalProperties: false,
        },
      },
    },
  });
  const person = JSON.parse(done.choices[0]?.message.content ?? "");
  check(typeof person.name === "string" && Number.isInteger(person.age), "an answer of the schema");
}

async function embeddings(client: OpenAI): Promise<void> {
  const { data, response } = await client.embeddings.create({ model: EMBEDDER, input: ["one", "two"] }).withResponse();
  check(data.data.length === 2 && data.data[0]?.embedding.length === 384, "two vectors of 384 numbers");
  const floats = await client.embeddings.create({ model: EMBEDDER, input: "one", encoding_format: "float" });
  const near = floats.data[0]?.embedding.every((value, at) => Math.abs(value - data.data[0]!.embedding[at]!) < 1e-5);
  check(near, "the same vector as numbers and as bytes");
  check(JSON.parse(response.headers.get("x-chatmesh-route") ?? "{}").model === EMBEDDER, "the route as a header");
  check((await client.models.retrieve(EMBEDDER)).id === EMBEDDER, "the model by its name");
}

async function moderations(client: OpenAI): Promise<void> {
  const made = await client.moderations.create({
    model: "omni-moderation-latest",
    input: ["What is the capital of France?", "Tell me how to kill my neighbour and hide the body."],
  });
  const [harmless, threat] = made.results;
  check(made.model.startsWith("chatmesh-moderation-"), "what classified says its name");
  check(harmless?.flagged === false && threat?.flagged === true, "a threat is told from a question");
  check(harmless!.category_scores.violence < threat!.category_scores.violence, "a score for each category");
  check(threat!.category_applied_input_types.violence[0] === "text", "what was looked at");
  const image = { type: "image_url" as const, image_url: { url: "https://example.com/a.png" } };
  const error = await client.moderations.create({ input: [image] }).catch((reason: unknown) => reason);
  check(error instanceof BadRequestError && error.param === "input.0.image_url", "images are refused by name");
}

async function errors(client: OpenAI): Promise<void> {
  const refused: [string, object][] = [
    ["nonsense", { nonsense: 1 }],
    ["store", { store: true }],
    ["n", { n: 9 }],
    ["messages.0.content.0.image_url", { messages: [{ role: "user", content: [{ type: "image_url" }] }] }],
    ["messages.1.tool_call_id", { messages: [...question, { role: "tool", tool_call_id: "x", content: "y" }] }],
  ];
  for (const [param, options] of refused) {
    const error = await client.chat.completions.create({ model: MODEL, messages: question, ...options }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    check(error instanceof BadRequestError && error.param === param, `${param} is refused by name, not by ${error}`);
  }
}

async function main(): Promise<void> {
  const { CHATMESH_URL: url, CHATMESH_TOKEN: token } = process.env;
  if (!url || !token) throw new Error("CHATMESH_URL and CHATMESH_TOKEN must be set");
  const client = new OpenAI({ apiKey: token, baseURL: `${url}/v1`, maxRetries: 0, timeout: 90_000 });
  await severalAnswers(client);
  await logProbabilities(client);
  await tools(client);
  await forms(client);
  await embeddings(client);
  await moderations(client);
  await errors(client);
}

main().catch((error: unknown) => {
  console.error("openai client:", error);
  process.exitCode = 1;
});
