// A chat through the edge over gRPC: one conversation, one question, the answer as it comes.
//
// CHATMESH_URL is the edge's address, CHATMESH_TOKEN the bearer token. Exits with 0 when the stream was whole.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	conversationv1 "github.com/chatmesh/chatmesh/gen/go/chatmesh/conversation/v1"
	typev1 "github.com/chatmesh/chatmesh/gen/go/chatmesh/type/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func main() {
	if err := run(os.Getenv("CHATMESH_URL"), os.Getenv("CHATMESH_TOKEN")); err != nil {
		fmt.Fprintln(os.Stderr, "go client:", err)
		os.Exit(1)
	}
}

func run(address, token string) error {
	edge, err := url.Parse(address)
	if err != nil || edge.Host == "" {
		return fmt.Errorf("CHATMESH_URL %q is not an address", address)
	}
	connection, err := grpc.NewClient(edge.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := conversationv1.NewConversationServiceClient(connection)

	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := refusesStrangers(ctx, client); err != nil {
		return err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	conversation, err := client.CreateConversation(ctx, &conversationv1.CreateConversationRequest{Title: "From Go"})
	if err != nil {
		return fmt.Errorf("create conversation: %w", err)
	}
	return chat(ctx, client, conversation.GetId())
}

// refusesStrangers checks that a call without a token ends in the status that a Go program would look for.
func refusesStrangers(ctx context.Context, client conversationv1.ConversationServiceClient) error {
	_, err := client.ListConversations(ctx, &conversationv1.ListConversationsRequest{})
	if code := status.Code(err); code != codes.Unauthenticated {
		return fmt.Errorf("a call without a token ended in %v instead of Unauthenticated: %w", code, err)
	}
	return nil
}

func chat(ctx context.Context, client conversationv1.ConversationServiceClient, conversationID string) error {
	maxTokens := int32(48)
	stream, err := client.StreamMessage(ctx, &conversationv1.SendMessageRequest{
		ConversationId: conversationID,
		Content:        "Count from one to ten.",
		Sampling:       &typev1.SamplingOptions{MaxTokens: &maxTokens},
	})
	if err != nil {
		return fmt.Errorf("stream message: %w", err)
	}
	deltas, terminals := 0, 0
	// Positions grow; text that became ready together is one event with the position of its end.
	for seq := int32(0); ; {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d deltas: %w", deltas, err)
		}
		if terminals > 0 {
			return fmt.Errorf("event %d came after the terminal one: %v", event.GetSeq(), event)
		}
		if event.GetSeq() <= seq {
			return fmt.Errorf("event %d came after event %d", event.GetSeq(), seq)
		}
		seq = event.GetSeq()
		switch event := event.GetEvent().(type) {
		case *conversationv1.GenerationEvent_Delta:
			deltas++
			fmt.Print(event.Delta.GetText())
		case *conversationv1.GenerationEvent_Completed:
			terminals++
		case *conversationv1.GenerationEvent_Failed:
			return fmt.Errorf("the generation failed: %v", event.Failed.GetError())
		}
	}
	fmt.Println()
	if deltas == 0 || terminals != 1 {
		return fmt.Errorf("%d deltas and %d terminal events", deltas, terminals)
	}
	return nil
}
