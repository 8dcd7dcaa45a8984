"""Who answers: loading a policy for a backend, making the embedded ones, generating, evaluating, serving."""
