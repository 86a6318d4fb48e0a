package policy_test

import (
	"context"
	"fmt"

	"berth/auth"
	"berth/auth/policy"
)

func Example() {
	p, err := policy.New(policy.Config{
		Roles: map[string][]auth.Action{"releaser": {auth.Pull, auth.PushNew}},
		Bindings: []policy.Binding{
			{Subjects: []string{"group:team-a"}, Roles: []string{"registry-editor"}, Repositories: []string{"team-a/**"}},
			{Subjects: []string{"user:ci"}, Roles: []string{"releaser"}, Repositories: []string{"*/app"}},
			{Subjects: []string{"anonymous"}, Roles: []string{"registry-viewer"}, Repositories: []string{"*/public"}},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	alice := auth.Subject{Name: "alice", Groups: []string{"team-a"}}
	fmt.Println(p.Authorize(context.Background(), alice, auth.Access{Action: auth.Push, Repository: "team-a/app"}))
	fmt.Println(p.Authorize(context.Background(), alice, auth.Access{Action: auth.Push, Repository: "team-b/app"}))
	fmt.Println(p.Explain(alice, auth.Access{Action: auth.Pull, Repository: "team-b/public"}).Reason)
	fmt.Println(p.MayMoveTags(&auth.Subject{Name: "ci"}, "team-a/app"))
	// Output:
	// <nil>
	// access denied: "alice" may not push on the repository "team-b/app"
	// the binding number 3 (anonymous) gives the role registry-viewer on */public
	// false
}
