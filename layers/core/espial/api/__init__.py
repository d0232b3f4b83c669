"""The owner's API: routes, what they take and answer. Only serve_api and change_stack import it."""
