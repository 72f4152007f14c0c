package doctor

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestSettingsOfTheServer(t *testing.T) {
	file, err := os.ReadFile("diagnose.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, read, _ := strings.Cut(string(file), "-- name: "+listSettings.Name())
	read, _, _ = strings.Cut(read, "order by")
	for _, c := range []struct {
		name, odd, usual string
		isOdd            func(name, value string) bool
	}{
		{"autovacuum", "off", "on", stopsVacuum},
		{"track_counts", "off", "on", stopsVacuum},
		{"autovacuum_naptime", fmt.Sprint(mostNaptime + 1), fmt.Sprint(mostNaptime), stopsVacuum},
		{"zero_damaged_pages", "on", "off", hidesDamage},
		{"ignore_checksum_failure", "on", "off", hidesDamage},
		{"ignore_invalid_pages", "on", "off", hidesDamage},
		{"data_sync_retry", "on", "off", hidesDamage},
		{"old_snapshot_threshold", "60", "-1", isOddSetting},
		{"statement_timeout", "1", "0", isOddSetting},
		{"lock_timeout", "1", "0", isOddSetting},
		{"transaction_timeout", "1", "0", isOddSetting},
		{"default_transaction_isolation", "serializable", "read committed", isOddSetting},
		{"search_path", "public, pg_catalog", "public", isOddSetting},
	} {
		if !c.isOdd(c.name, c.odd) || c.isOdd(c.name, c.usual) {
			t.Errorf("%s: %q must be odd, %q usual", c.name, c.odd, c.usual)
		}
		if !slices.Contains(strings.Split(read, "'"), c.name) {
			t.Errorf("%s is not read", c.name)
		}
	}
}
