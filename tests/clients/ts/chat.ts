// A chat through the edge over gRPC-Web, with the transport that a browser would use: one conversation, one question,
// the answer as it comes.
//
// CHATMESH_URL is the edge's address, CHATMESH_TOKEN the bearer token. Exits with 0 when the stream was whole.
import { Code, ConnectError, createClient, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ConversationService } from "@chatmesh/client/chatmesh/conversation/v1/conversation_service_pb";

type Conversations = Client<typeof ConversationService>;

function connect(baseUrl: string, interceptors: Interceptor[]): Conversations {
  return createClient(ConversationService, createGrpcWebTransport({ baseUrl, interceptors, defaultTimeoutMs: 90_000 }));
}

/** Checks that a call without a token ends in the code that a web application would look for. */
async function refusesStrangers(client: Conversations): Promise<void> {
  const error = await client.listConversations({}).then(() => undefined, ConnectError.from);
  if (error?.code !== Code.Unauthenticated) {
    throw new Error(`a call without a token ended in ${error ?? "success"} instead of Unauthenticated`);
  }
}

async function chat(client: Conversations, conversationId: string): Promise<void> {
  let deltas = 0;
  let terminals = 0;
  let last = 0;
  const request = { conversationId, content: "Count from one to ten.", sampling: { maxTokens: 48 } };
  for await (const { seq, event } of client.streamMessage(request)) {
    if (terminals > 0) throw new Error(`event ${seq} came after the terminal one`);
    // Positions grow; text that became ready together is one event with the position of its end.
    if (seq <= last) throw new Error(`event ${seq} came after event ${last}`);
    last = seq;
    switch (event.case) {
      case "delta":
        deltas += 1;
        process.stdout.write(event.value.text);
        break;
      case "completed":
        terminals += 1;
        break;
      case "failed":
        throw new Error(`the generation failed: ${event.value.error?.message}`);
    }
  }
  process.stdout.write("\n");
  if (deltas === 0 || terminals !== 1) throw new Error(`${deltas} deltas and ${terminals} terminal events`);
}

async function main(): Promise<void> {
  const { CHATMESH_URL: url, CHATMESH_TOKEN: token } = process.env;
  if (!url || !token) throw new Error("CHATMESH_URL and CHATMESH_TOKEN must be set");
  await refusesStrangers(connect(url, []));
  const client = connect(url, [
    (next) => (request) => {
      request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    },
  ]);
  const conversation = await client.createConversation({ title: "From TypeScript" });
  await chat(client, conversation.id);
}

main().catch((error: unknown) => {
  console.error("ts client:", error);
  process.exitCode = 1;
});
