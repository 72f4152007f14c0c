package wire

import (
	"slices"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// rulesOf returns the rules of a field, which clients of other languages check.
func rulesOf(m proto.Message, field protoreflect.Name) *validate.FieldRules {
	options := m.ProtoReflect().Descriptor().Fields().ByName(field).Options()
	return proto.GetExtension(options, validate.E_Field).(*validate.FieldRules)
}

// TestRulesOfAccessAreTheLimitsOfTheDomain: the domain accepts each value at a limit of the messages, and refuses the next one.
func TestRulesOfAccessAreTheLimitsOfTheDomain(t *testing.T) {
	admin := access.NewAdmin(memory.NewTokens(nil), access.AdminOptions{})
	ctx := access.With(t.Context(), access.Owner())
	check := func(what string, valid bool, err error) {
		t.Helper()
		if refused := queue.KindOf(err) == queue.KindInvalid; refused == valid {
			t.Errorf("%s: %v, want valid=%v", what, err, valid)
		}
	}
	create := func(change func(*access.TokenRequest)) error {
		r := access.TokenRequest{Name: "a", Grants: []string{"viewer@default"}}
		change(&r)
		_, err := admin.CreateToken(ctx, r)
		return err
	}

	name := rulesOf(&pb.CreateTokenRequest{}, "name").GetString()
	for n, valid := range map[uint64]bool{
		name.GetMinBytes() - 1: false, name.GetMinBytes(): true, name.GetMaxBytes(): true, name.GetMaxBytes() + 1: false,
	} {
		check("name", valid, create(func(r *access.TokenRequest) { r.Name = strings.Repeat("x", int(n)) }))
	}
	grants := rulesOf(&pb.CreateTokenRequest{}, "grants").GetRepeated()
	for n, valid := range map[uint64]bool{
		grants.GetMinItems() - 1: false, grants.GetMinItems(): true, grants.GetMaxItems(): true, grants.GetMaxItems() + 1: false,
	} {
		check("grants", valid, create(func(r *access.TokenRequest) { r.Grants = slices.Repeat(r.Grants, int(n)) }))
	}
	expires := rulesOf(&pb.CreateTokenRequest{}, "expires").GetDuration()
	least, most := expires.GetGte().AsDuration(), expires.GetLte().AsDuration()
	for life, valid := range map[int64]bool{int64(least) - 1: false, int64(least): true, int64(most): true, int64(most) + 1: false} {
		check("expires", valid, create(func(r *access.TokenRequest) { r.Life = time.Duration(life) }))
	}

	rotate := func(overlap time.Duration) error {
		former, err := admin.CreateToken(ctx, access.TokenRequest{Name: "a", Grants: []string{"viewer@default"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = admin.RotateToken(ctx, former.ID, access.Rotation{Overlap: overlap})
		return err
	}
	overlap := rulesOf(&pb.RotateTokenRequest{}, "overlap").GetDuration()
	least, most = overlap.GetGte().AsDuration(), overlap.GetLte().AsDuration()
	for d, valid := range map[time.Duration]bool{least - 1: false, least: true, most: true, most + 1: false} {
		check("overlap", valid, rotate(d))
	}

	for _, m := range []proto.Message{&pb.RotateTokenRequest{}, &pb.RevokeTokenRequest{}} {
		length := rulesOf(m, "id").GetString().GetLen()
		for n, valid := range map[uint64]bool{length - 1: false, length: true, length + 1: false} {
			_, err := admin.RevokeToken(ctx, strings.Repeat("0", int(n)))
			check("id", valid, err)
		}
	}

	principal, limit := rulesOf(&pb.ListAuditRequest{}, "principal").GetString(), rulesOf(&pb.ListAuditRequest{}, "limit").GetInt64()
	for n, valid := range map[uint64]bool{principal.GetMaxBytes(): true, principal.GetMaxBytes() + 1: false} {
		_, err := access.AuditFilter{Principal: strings.Repeat("x", int(n))}.Normalize()
		check("principal", valid, err)
	}
	for n, valid := range map[int64]bool{limit.GetGte() - 1: false, limit.GetGte(): true, limit.GetLte(): true, limit.GetLte() + 1: false} {
		_, err := access.AuditFilter{Limit: int(n)}.Normalize()
		check("limit", valid, err)
	}
}

func TestAStatedLifeOfNothingIsRefused(t *testing.T) {
	var r Reader
	if r.TokenRequest(&pb.CreateTokenRequest{Expires: optionalDuration(new(time.Duration))}); !isInvalid(r.Err(), "expires") {
		t.Error(r.Err())
	}
	var absent Reader
	if got := absent.Rotation(&pb.RotateTokenRequest{}); got.Overlap != access.DefaultOverlap || absent.Err() != nil {
		t.Errorf("an absent overlap is %v, %v", got.Overlap, absent.Err())
	}
}
