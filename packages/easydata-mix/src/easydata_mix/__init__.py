"""Mix row sources by weights and schedules, exactly and resumably."""
