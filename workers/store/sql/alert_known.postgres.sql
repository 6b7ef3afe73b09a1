SELECT EXISTS (SELECT FROM alerts WHERE id = $1 AND rank < 3) AS known
