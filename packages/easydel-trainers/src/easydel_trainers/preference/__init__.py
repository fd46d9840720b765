"""What the trainers on preferences share: rows as sequences, their scores, the reference's scores."""
