"""What the trainers on preferences share: rows as groups of sequences, their scores, the reference's scores."""
