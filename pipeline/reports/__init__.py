"""Pictures and tables for people: contact sheets, the papers' tables beside ours."""
